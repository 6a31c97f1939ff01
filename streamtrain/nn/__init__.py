"""The maths to be read aloud: functions, the net and the optimiser, with their formulas. Imports torch alone."""
