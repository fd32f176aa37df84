[package]
name = "layers"
version = "0.1.0"
