"""The only floor that names concrete classes: from a configuration to running services.

`stores` opens what keeps the staged files, in one of the two forms (`embedded`, `distributed`); `wired` puts the
services on top of it; `checking` asks each part one question, for `overlay check`.
"""
