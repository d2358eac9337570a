//! A Python web application under `policy-examples/python-web.toml`.
