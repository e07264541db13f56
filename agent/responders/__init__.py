"""Who answers: one module for each kind of responder, and the function that makes the one that is configured."""
