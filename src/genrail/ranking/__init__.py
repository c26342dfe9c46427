"""Put together what several finders found: weights of a fusion, learnt from judged questions."""
