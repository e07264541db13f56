"""What is wrong, and how to mend it: one module for each kind of check, and the report of them all."""
