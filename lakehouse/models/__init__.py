"""Models: what turns tables of the lake into what people use. One SELECT, or one function, a file."""
