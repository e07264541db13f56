"""The languages of spoken requests, one module each."""
