"""The maths of nn/ at the machine's speed."""
