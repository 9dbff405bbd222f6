//! Makes cargo notice a new file in what is embedded; a changed one it notices by itself.

fn main() {
    for folder in ["plugins/templates", "plugins/sdk", "wit"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
