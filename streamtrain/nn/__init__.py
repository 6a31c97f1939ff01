"""The maths, written to be read: functions, the net and the optimiser, with their formulas. Imports only torch."""

import os
from functools import partial

import torch

# A fork ends the threads of OpenMP: a product in the child that shared work with them would never return.
os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
