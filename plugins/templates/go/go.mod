module {{name}}

go 1.25

require github.com/pgstream-host/pgstream-host/plugins/sdk/go v0.0.0

replace github.com/pgstream-host/pgstream-host/plugins/sdk/go => ./sdk
