# Each target does its own set-up in .venv, from a bare checkout with Python >= 3.11 and a C
# compiler, and repeats it only where something it stands on has changed.
#
#   make demo        networks learn handwritten digits, and the order of symbols (examples/)
#   make docs        the documentation, into build/docs/html
#   make test        the test suite;  make test ARGS="-k depthwise -x"
#   make sanitize    the suite under AddressSanitizer and UndefinedBehaviorSanitizer
#   make check-dist  sdist -> wheel -> empty environment -> the suite from the sdist
#   make bench       timings beside fastconv.reference;  bench/compare.py for other libraries
#   make lint        ruff and mypy;  make format
#   make clean
#
# PYTHON, CC, CFLAGS and FASTCONV_OPENMP are heeded.

PYTHON ?= python3
ARGS ?=
export CC

venv := .venv
bin := $(abspath $(venv))/bin
built_from := pyproject.toml setup.py MANIFEST.in \
    $(wildcard src_c/* fastconv/*.pyx fastconv/*.pxi fastconv/*.pxd)
doctests := --doctest-modules --pyargs fastconv
python_files := $(wildcard fastconv/*.py fastconv/*.pyi fastconv/*/*.py examples/*.py)
docs_sources := $(wildcard docs/*.* docs/guide/* docs/api/*.rst docs/_*/* docs/plots/* docs/scripts/*/*)

.PHONY: demo docs test sanitize check-dist bench lint format clean FORCE
.DELETE_ON_ERROR:

demo: $(venv)/installed $(venv)/extra-demo
	$(bin)/python examples/digits.py $(ARGS)
	$(bin)/python examples/temporal_order.py

test: $(venv)/installed $(venv)/extra-test
	$(bin)/pytest $(ARGS)

# Pages that are scripts run when they have changed; -W: a warning is an error.
docs: $(venv)/installed $(venv)/extra-docs
	$(bin)/sphinx-build -q -W --keep-going -d build/docs/doctrees docs build/docs/html $(ARGS)
	$(bin)/python docs/check_site.py build/docs/html

bench: $(venv)/installed $(venv)/extra-bench
	$(bin)/pytest bench/test_bench_*.py $(ARGS)

lint: $(venv)/installed $(venv)/extra-lint
	$(bin)/ruff check .
	$(bin)/ruff format --check --quiet .
	$(bin)/mypy

format: $(venv)/extra-lint
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

clean:
	rm -rf $(venv) build dist fastconv.egg-info fastconv/_core.c fastconv/_core*.so
	rm -rf docs/mathematics docs/gallery docs/api/generated


# .venv: one stamp for each thing that was put into it.

$(venv)/created:
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, here is " \
	    + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(venv)
	touch $@

# setuptools looks at the sources' times alone: another compiler needs a clean start.
$(venv)/compiler: FORCE | $(venv)/created
	@echo '$(CC) $(CFLAGS) $(FASTCONV_OPENMP)' | cmp -s - $@ \
	    || { echo '$(CC) $(CFLAGS) $(FASTCONV_OPENMP)' > $@; rm -f fastconv/_core*.so; }

$(venv)/installed: $(built_from) $(venv)/compiler
	$(bin)/pip install --quiet --editable .
	touch $@

# The packages of an extra of pyproject.toml, without building anything anew.
$(venv)/extra-%: pyproject.toml | $(venv)/created
	$(bin)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb")) \
	    ["project"]["optional-dependencies"]["$*"], sep="\n")' > $@.txt
	$(bin)/pip install --quiet --requirement $@.txt
	touch $@

build/sdist/made: $(built_from) $(python_files) $(docs_sources) $(wildcard tests/* examples/*) README.md | $(venv)/extra-dist
	rm -rf $(@D)
	$(bin)/python -m build --sdist --outdir $(@D) . > /dev/null
	touch $@


# The extension with the sanitizers in it, in an environment of its own. Python must load their
# run-time library first, with it that of C++ (matplotlib throws exceptions, which the sanitizer
# wraps), and leaks are not looked for: CPython itself leaves some at exit.

sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1 -DFC_SANITIZE
ifneq (,$(findstring clang,$(shell $(CC) --version)))
sanitizers += -shared-libasan
asan = $(shell $(CC) -print-file-name=libclang_rt.asan-$(shell uname -m).so)
else
asan = $(shell $(CC) -print-file-name=libasan.so)
endif

sanitize: build/sanitize/installed
	cd build/sanitize && LD_PRELOAD="$(asan) $(shell $(CC) -print-file-name=libstdc++.so.6)" \
	    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	    venv/bin/pytest -p no:cacheprovider ../../tests $(doctests) $(ARGS)

build/sanitize/installed: build/sdist/made $(venv)/compiler
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)/venv
	CFLAGS="$(sanitizers)" LDFLAGS="$(sanitizers)" \
	    $(@D)/venv/bin/pip install --quiet "$$(echo build/sdist/*.tar.gz)[test]"
	touch $@


# The wheel as a user gets it, tested by the suite that the sdist carries.

check-dist: build/sdist/made
	rm -rf build/dist && mkdir -p build/dist/elsewhere
	tar xf build/sdist/*.tar.gz -C build/dist --strip-components=1
	cd build/dist && $(bin)/python -m build --wheel --outdir wheel . > /dev/null
	$(PYTHON) -m venv build/dist/venv
	build/dist/venv/bin/pip install --quiet "$$(echo build/dist/wheel/*.whl)[test]"
	$(bin)/python -m zipfile --list build/dist/wheel/*.whl
	ls -l build/dist/wheel
	cd build/dist/elsewhere && ../venv/bin/pytest -p no:cacheprovider ../tests $(doctests) $(ARGS)
