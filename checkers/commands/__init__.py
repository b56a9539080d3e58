"""One module per subcommand of `hwmark`.

Each has `configure(parser)`, which declares the arguments, and `run(arguments)`, which returns the exit status.
A module imports only what parsing its arguments needs; engines are imported inside `run`, so that
`hwmark --help` stays quick.
"""
