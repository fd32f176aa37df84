[package]
name = "monitoring"
version = "0.2.1"
