[package]
name = "opensearch"
version = "0.1.1"
