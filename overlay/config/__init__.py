"""The configuration: config.toml and the environment -> frozen values."""
