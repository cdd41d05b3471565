"""What is seen of a queue while somebody watches: one look for all who do, and the stream that tells them."""
