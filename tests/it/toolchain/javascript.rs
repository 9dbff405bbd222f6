//! JavaScript and TypeScript: a new project builds and passes its tests, the tutorial holds, and mistakes are told.

use super::{fail, has_tools, host, new_project, succeed, text, tutorial};

#[test]
fn the_tutorial_holds() {
    if has_tools(&["node", "npm"]) {
        tutorial("docs/handlers/javascript.md", &[]);
    }
}

#[test]
fn a_new_project_builds_and_passes_its_tests() {
    if !has_tools(&["node", "npm"]) {
        return;
    }
    for language in ["js", "ts"] {
        let (_scratch, project) = new_project("built", language);
        succeed(host(["build"]).current_dir(&project));
        succeed(host(["test"]).current_dir(&project));

        let source = project.join(format!("handler.{language}"));
        let fine = std::fs::read_to_string(&source).unwrap();
        std::fs::write(&source, fine.replace("switch", "swish")).unwrap();
        let output = host(["build"]).current_dir(&project).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(&format!("handler.{language}")), "{}", text(&output.stderr));
    }
}

#[test]
fn without_npm_it_says_what_to_install() {
    let (_scratch, project) = new_project("missing", "js");
    let said = fail(host(["build"]).current_dir(&project).env("PATH", "/nowhere"), 3);
    assert!(said.contains("`npm` is not installed") && said.contains("nodejs.org"), "{said}");
}
