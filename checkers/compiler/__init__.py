"""A model compiled to machine code: the second interpretation of a specification, for exhaustive search.

LLVM is used directly (through llvmlite, the library underneath Numba): a model compiles in a fraction of a second,
where Numba's type inference needed several, and early returns, range checks and short circuits are plain control flow.
"""

from hwmark.checkers.compiler.compiled import Compiled, compile_instance

__all__ = ["Compiled", "compile_instance"]
