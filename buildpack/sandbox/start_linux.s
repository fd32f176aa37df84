// Functions that package runtime has (see start_linux.go) are declared without a body, which the compiler allows beside an assembler file.
