"""`python -m bench`: the decision and the settlement alone, then whole lanes beside null servers."""

from bench import decide, lanes, ledger_row, policies, settle

if __name__ == "__main__":
    decide.main()
    print()
    policies.main()
    print()
    ledger_row.main()
    print()
    settle.main()
    print()
    lanes.main()
