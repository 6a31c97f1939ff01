"""The maths to be read aloud: functions, the net, the optimiser, each beside its formula."""
