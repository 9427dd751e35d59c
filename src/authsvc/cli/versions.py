"""Makes sure that the two distributions, `authsvc` and `authsvc-client`, have the same version.

They share a package, and the first is made for the second one of the same version (ADR 40). pip installs them
so, and only warns when somebody then updates one of them alone.
"""

from importlib.metadata import PackageNotFoundError, version

from authsvc import __version__
from authsvc.model.errors import OperatorError


def check_versions() -> None:
    """Raise OperatorError if the versions differ."""
    try:
        installed = version("authsvc")
    except PackageNotFoundError:
        return  # It runs from source.
    if installed != __version__:
        raise OperatorError(
            f"authsvc {installed} is installed with authsvc-client {__version__}, and they must have the "
            f"same version: pip install authsvc=={installed} (in a checkout: make run)"
        )
