[dependencies]
kam = { git = "https://github.com/KusionStack/kam.git", tag = "0.2.0" }
service = { oci = "oci://ghcr.io/kusionstack/service", tag = "0.2.1" }
network = { oci = "oci://ghcr.io/kusionstack/network", tag = "0.3.0" }
k8s_manifest = { oci = "oci://ghcr.io/kusionstack/k8s_manifest", tag = "0.1.0" }

[profile]
entries = ["../base/base.k", "main.k"]
