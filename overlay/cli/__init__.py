"""The command line: serves in process, does everything else over HTTP."""
