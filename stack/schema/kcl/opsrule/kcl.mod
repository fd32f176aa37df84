[package]
name = "opsrule"
version = "0.2.1"
