"""What pyproject.toml cannot say: found packages, and one more whose folder is elsewhere.

Configuration lives in `conf/` of a checkout and in `numa_bench/conf/` of a wheel.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["numa_bench", "numa_bench.*"]), "numa_bench.conf"],
    package_dir={"numa_bench.conf": "conf"},
)
