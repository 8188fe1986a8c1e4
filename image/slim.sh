#!/bin/sh
# slim.sh VENV: take out what a running system never reads (tests, headers, stubs of the libraries, symbols for a
# debugger), then import what was touched, so that a build that broke something fails here.
set -eu
cd "$1"/lib/python3*/site-packages
find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.a' \) -delete
rm -rf numpy/f2py numpy/_core/include numpy/_core/lib
# Not the libraries in *.libs: they were patched when their wheel was made, and stripping can break such files.
find . -type f -name '*.so' -not -path './*.libs/*' -exec strip --strip-unneeded {} +
"$1"/bin/python -c '
import aiohttp, apsw, confluent_kafka, cryptography, msgspec, numpy, opentelemetry.sdk.trace, polars, psycopg
import pydantic, sqlalchemy, sqlglot, uvloop, xxhash, zstandard
from opentelemetry.exporter.otlp.proto.http import trace_exporter
polars.DataFrame({"a": [1, 2]}).group_by("a").len()
'
