[package]
name = "inference"
version = "0.1.1"
