"""`python -m bench`: the decision alone, then whole lanes beside null servers."""

from bench import decide, lanes

if __name__ == "__main__":
    decide.main()
    print()
    lanes.main()
