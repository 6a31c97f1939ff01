"""The functions in C. Each is documented at its reference in Python, in the module that the comment names."""

from streamtrain.block import Array

SOURCES: str
"""A digest of the sources that the extension was built from."""

def isas() -> list[str]:
    """Return the names of the instruction sets that this processor runs, the best first."""

def isa() -> str:
    """Return the name of the instruction set in use."""

def select(name: str, /) -> None:
    """Use another instruction set from now on. Raises ValueError if the processor does not run it."""

# parse
def parse(
    data: Array,
    size: int,
    parts: Array,
    flags: Array,
    limits: Array,
    classes: Array,
    word_text: Array,
    word_ends: Array,
    guard: Array,
    skip: int,
    pixels: Array,
    labels: Array,
    lines: Array,
    odd: Array,
    counts: Array,
    /,
) -> None: ...
def count_lines(data: Array, size: int, /) -> int: ...
def end_lines(data: Array, start: int, stop: int, /) -> None: ...

# gather
def gather_scaled(pixels: Array, order: Array, low: float, span: float, at: int, out: Array, /) -> None: ...

# warp
def warp(
    pixels: Array, height: int, affine: Array, grid: Array, spline_y: Array, spline_x: Array, out: Array, /
) -> None: ...

# statistics
def add_rows(pixels: Array, group: Array, sums: Array, squares: Array, low: Array, high: Array, /) -> None: ...

# evaluate
def evaluate(
    logits: Array, classes: int, labels: Array, sums: Array, codes: Array, calibration: Array, /
) -> int: ...

# adam
def adam(p: Array, m: Array, v: Array, g: Array, numbers: Array, /) -> None: ...

# step
def list_nonzero(counts: Array, shares: Array, pixels: Array, /) -> None: ...
def forward(x: Array, weight: Array, bias: Array, z: Array, pixels: Array, /) -> None: ...
def accumulate(
    x: Array,
    counts: Array,
    shares: Array,
    dz: Array,
    weight: Array,
    bias: Array,
    beta: float,
    alpha: float,
    /,
) -> None: ...
def exponentials(numbers: Array, /) -> None: ...
def score(logits: Array, classes: int, labels: Array, dlogits: Array, totals: Array, /) -> None: ...

# learn
def room(sizes: Array, skips_zeros: int, rows: int, /) -> int: ...
def logits(
    pixels: Array,
    order: Array,
    sizes: Array,
    activation: int,
    skips_zeros: int,
    low: float,
    span: float,
    parameters: Array,
    room: Array,
    logits: Array,
    /,
) -> None: ...
def gradient(
    pixels: Array,
    order: Array,
    sizes: Array,
    activation: int,
    skips_zeros: int,
    low: float,
    span: float,
    parameters: Array,
    room: Array,
    gradient: Array,
    labels: Array,
    totals: Array,
    /,
) -> None: ...
def move(
    parameters: Array,
    velocity: Array,
    gradient: Array,
    share: float,
    lr: float,
    momentum: float,
    decay: float,
    /,
) -> None: ...
