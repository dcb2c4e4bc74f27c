module github.com/llm-authz/authzreply

go 1.22
