"""How Hydra is used: its application, errors, directories, overrides, sweeps and launchers."""
