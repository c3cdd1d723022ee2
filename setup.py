"""Build the optional range-variant ANS coder; everything else is in pyproject.toml."""

from setuptools import Extension, setup

# Stable ABI: one binary serves every Python from 3.10 on. `optional` lets an install without a C compiler
# succeed; the numpy coder then does the same work, bit for bit, more slowly.
setup(
    ext_modules=[
        Extension(
            "isthmus.runtime.codecs._rans",
            sources=["runtime/codecs/_rans.c"],
            depends=["runtime/codecs/_contexts.h"],
            define_macros=[("Py_LIMITED_API", "0x030A0000")],
            py_limited_api=True,
            optional=True,
            extra_compile_args=["-O3", "-std=c11"],
        )
    ],
)
