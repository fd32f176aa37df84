[package]
name = "job"
version = "0.2.1"
