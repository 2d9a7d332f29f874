"""`bindchat eval`: how good a server's answers are, over HTTP, on data sets of the user's own."""
