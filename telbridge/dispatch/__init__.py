"""Several workers behind one SIP port: a proxy that gives each new call to one of them and keeps it there."""
