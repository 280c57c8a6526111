"""A campaign's plan, read from TOML and checked."""
