[package]
name = "postgres"
version = "0.2.1"
