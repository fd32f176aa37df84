[package]
name = "service"
version = "0.2.1"
