"""How questions become token ids."""
