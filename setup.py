"""Builds the one extension module, fastconv._core. Everything else is in pyproject.toml.

Environment:
    CC                   the compiler: gcc or clang (on Windows clang-cl or MinGW: the kernels
                         are written in GNU C vectors, which MSVC does not have)
    CFLAGS               added as usual; an -O in it replaces ours
    FASTCONV_OPENMP=0    build without OpenMP (then every call stays on its own thread)
"""

import glob
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# (compile, link) flags to try for OpenMP, the first that builds a program is taken.
GNU_OPENMP = [(["-fopenmp"], ["-fopenmp"])]
APPLE_OPENMP = [
    (["-Xpreprocessor", "-fopenmp", f"-I{prefix}/include"], [f"-L{prefix}/lib", "-lomp"])
    for prefix in ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp", "/usr/local")
] + GNU_OPENMP
CLANG_CL_OPENMP = [(["-openmp"], ["libomp.lib"])]
OPENMP_PROGRAM = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


class BuildCore(build_ext):
    """Adds the flags that depend on the compiler, and compiles the C files side by side."""

    def build_extension(self, ext):
        msvc_style = self.compiler.compiler_type == "msvc"
        if msvc_style:
            use_clang_cl(self.compiler)
        ext.extra_compile_args = clang_cl_flags() if msvc_style else gnu_flags()
        compile_flags, link_flags = self.find_openmp(msvc_style)
        ext.extra_compile_args += compile_flags
        ext.extra_link_args += link_flags
        if self.compiler.compiler_type == "mingw32":
            ext.extra_link_args += ["-static-libgcc"]
        compile_in_parallel(self.compiler)
        super().build_extension(ext)

    def find_openmp(self, msvc_style):
        if os.environ.get("FASTCONV_OPENMP", "1") == "0":
            return [], []
        if msvc_style:
            candidates = CLANG_CL_OPENMP
        else:
            candidates = APPLE_OPENMP if sys.platform == "darwin" else GNU_OPENMP
        for flags in candidates:
            if self.builds(OPENMP_PROGRAM, *flags):
                return flags
        print("fastconv: no OpenMP found, building for one thread", file=sys.stderr)
        return [], []

    def builds(self, program, compile_flags, link_flags):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.c")
            with open(source, "w") as file:
                file.write(program)
            try:
                objects = self.compiler.compile(
                    [source], output_dir=folder, extra_postargs=compile_flags
                )
                self.compiler.link_executable(
                    objects, os.path.join(folder, "probe"), extra_postargs=link_flags
                )
            except Exception:  # CompileError, LinkError, or a compiler that is not there
                return False
        return True


def gnu_flags():
    # gnu11, not c11: with c11 gcc contracts nothing and emits no fused multiply-adds.
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden"]
    given = os.environ.get("CFLAGS", "").split()
    if not any(flag.startswith("-O") for flag in given):
        flags.append("-O3")
    if not any(flag.startswith("-g") for flag in given):
        flags.append("-g0")  # Python's own flags often hold -g: it would triple the wheel
    return flags


def clang_cl_flags():
    return ["/O2", "/clang:-O3", "/clang:-std=gnu11", "-Wall", "-Wextra"]


def use_clang_cl(compiler):
    """Make setuptools' MSVC class call clang-cl, which takes the same options."""
    if not compiler.initialized:
        compiler.initialize()
    compiler.cc = os.environ.get("CC", "clang-cl")
    try:
        subprocess.run([compiler.cc, "--version"], check=True, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"fastconv needs clang-cl (from LLVM) or MinGW on Windows, but {compiler.cc!r}"
            f" does not run: {error}"
        ) from None


def compile_in_parallel(compiler):
    serial = compiler.compile

    def compile_one(source, options):
        if source.endswith("_core.c"):  # generated: -Wextra is for what we wrote
            flags = [flag for flag in options["extra_postargs"] if flag != "-Wextra"]
            options = {**options, "extra_postargs": flags}
        return serial([source], **options)

    def compile_all(sources, **options):
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiled = pool.map(lambda source: compile_one(source, options), sources)
            return [file for files in compiled for file in files]

    compiler.compile = compile_all


core = Extension(
    "fastconv._core",
    sources=["fastconv/_core.pyx", *sorted(glob.glob("src_c/*.c"))],
    include_dirs=["src_c", numpy.get_include()],
    depends=sorted(glob.glob("src_c/*.h") + glob.glob("src_c/*.inc") + glob.glob("fastconv/*.pxi")),
    define_macros=[
        ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
        ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
    ],
)

setup(ext_modules=[core], cmdclass={"build_ext": BuildCore})
