module github.com/llm-authz/authzguard

go 1.22
