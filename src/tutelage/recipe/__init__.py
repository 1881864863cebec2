"""Recipes: one run as validated data. `schema` says what may stand in one, `catalogue` finds parts by
name, `build` turns a recipe into the things it names."""
