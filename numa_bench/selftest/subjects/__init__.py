"""The checks, one module for each subject. A check is a function listed in its module's CHECKS."""
