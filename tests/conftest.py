"""What holds for all tests."""

import tempfile
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

# Not in the checkout: the tests are root's, the checkout need not be.
set_hypothesis_home_dir(Path(tempfile.gettempdir(), "jfe-hypothesis"))
