"""The command line: each verb parses, calls one function of one room, and prints."""
