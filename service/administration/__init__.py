"""What administrators may do: rules and audit rows, once for the command line and for HTTP."""
