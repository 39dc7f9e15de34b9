"""The shapes in the package's signatures are checked at every call that these tests make."""

import torch
from jaxtyping import install_import_hook

install_import_hook("interp.crosscoder", "beartype.beartype")
torch.set_num_threads(1)
