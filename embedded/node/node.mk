# Builds the node's programs and images into bin/node; included by the
# Makefile. Each step is printed with its time, and what is fresh is skipped.

.PHONY: node
node:
	@cd $(CURDIR)/embedded/node && go run ./build -out $(CURDIR)/bin/node
