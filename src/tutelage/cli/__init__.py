"""The commands: one file each, each a plain function of the same name."""
