module github.com/pgstream-host/pgstream-host/plugins/sdk/go

go 1.25
