//! The name of a program, by its words.

use super::*;

fn named(runtime: &str, directory: &str, line: &str) -> Option<String> {
    let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let process = Process {
        executable: format!("/usr/bin/{}", arguments[0].rsplit('/').next().unwrap()),
        arguments,
        directory: directory.to_owned(),
        ..Process::default()
    };
    let runtime = Runtime { name: runtime.to_owned(), version: None };
    of(&process, Some(&runtime)).map(|script| script.name)
}

/// Each line with the name of what it runs; an empty name for none.
fn assert_names(runtime: &str, rows: &[(&str, &str)]) {
    for (line, name) in rows {
        let found = named(runtime, "/srv/shop", line);
        assert_eq!(found.as_deref().unwrap_or_default(), *name, "{line}");
    }
}

#[test]
fn programs_of_python_are_named_by_what_they_run() {
    assert_names(
        "cpython",
        &[
            ("python3.10 app.py", "app.py"),
            ("python3 -u -W ignore /a/bot.py x", "bot.py"),
            ("python3 -um pkg.cli run", "pkg.cli"),
            ("python3 /app/bot/__main__.py", "bot"),
            ("python3 manage.py runserver", "shop"),
            ("python3 /venv/bin/uvicorn pkg.main:app --host 0.0.0.0", "pkg.main"),
            ("python3 /venv/bin/uvicorn --host localhost pkg.main:app", "pkg.main"),
            ("python3 -m uvicorn pkg.main:app", "pkg.main"),
            ("python3 /venv/bin/gunicorn -w 4 app:app", "app"),
            ("python3 /venv/bin/celery -A proj worker", "proj"),
            ("python3 /venv/bin/celery --app=proj.tasks worker", "proj.tasks"),
            ("python3 /venv/bin/streamlit run chat.py", "chat.py"),
            ("python3 -m debugpy --listen 5678 chat.py", "chat.py"),
            ("python3 /venv/bin/my-agent --serve", "my-agent"),
            ("python3", ""),
            ("python3 -c print(1)", ""),
            ("python3 -", ""),
            // A program that embeds Python is itself.
            ("agent serve.py", ""),
        ],
    );
}

#[test]
fn programs_of_javascript_are_named_by_what_they_run() {
    assert_names(
        "nodejs",
        &[
            ("node worker.js", "worker.js"),
            ("node -r dotenv/config ./index.js", "shop"),
            ("node server.js", "shop"),
            ("node dist/main.js", "shop"),
            ("node --import tsx chat.ts", "chat.ts"),
            ("node -e 1", ""),
            ("renamed worker.js", "worker.js"),
            ("single-file-app serve", ""),
        ],
    );
    assert_names("deno", &[("deno run -A bot.ts", "bot.ts"), ("deno serve main.ts", "shop")]);
    assert_names("bun", &[("bun x.ts", "x.ts"), ("bun run x.ts", "x.ts"), ("claude -p hello", "")]);
    assert_names("bun", &[("bun run start", "start")]);
}

#[test]
fn programs_of_other_runtimes_are_named_by_what_they_run() {
    assert_names(
        "openjdk",
        &[
            ("java -Xmx1g -jar x.jar", "x"),
            ("java -jar /opt/shop-1.2.0-SNAPSHOT.jar --spring", "shop"),
            ("java -cp x:y com.example.Main", "com.example.Main"),
            ("java -m shop/com.example.Main", "shop/com.example.Main"),
            ("java -Xmx64m /srv/chat/Bot.java hello", "Bot.java"),
            ("java -version", ""),
        ],
    );
    assert_names(
        "dotnet",
        &[
            ("dotnet App.dll", "App"),
            ("dotnet exec bin/Shop.Api.dll", "Shop.Api"),
            ("dotnet build", ""),
        ],
    );
    assert_names(
        "ruby",
        &[("ruby x.rb", "x.rb"), ("ruby bin/rails server", "shop"), ("ruby -e 1", "")],
    );
    assert_names("php", &[("php artisan queue:work", "shop"), ("php8.2 chat.php", "chat.php")]);
    assert_names("perl", &[("perl -I lib bot.pl", "bot.pl")]);
    assert_names("go", &[("agent serve", "")]);
}

#[test]
fn the_package_is_read_from_where_the_process_sees_it() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("srv/bot/package.json", r#"{"name": "@shop/bot"}"#);
    write("srv/bot/dist/package.json", r#"{"type": "module"}"#);
    write("srv/broken/package.json", "{");
    let outside = root.path().with_extension("outside");
    std::fs::write(&outside, r#"{"name": "stolen"}"#).unwrap();
    std::fs::create_dir_all(root.path().join("srv/linked")).unwrap();
    std::os::unix::fs::symlink(&outside, root.path().join("srv/linked/package.json")).unwrap();
    let name = |path: &str| {
        let process = Process {
            files: crate::inside::Inside::of(root.path()),
            directory: "/".to_owned(),
            ..Process::default()
        };
        file(&process, 1, path).name
    };
    assert_eq!(name("/srv/bot/dist/index.js"), "@shop/bot");
    assert_eq!(name("/srv/broken/index.js"), "broken");
    assert_eq!(name("/srv/linked/index.js"), "linked", "a link out of the root is not followed");
    std::fs::remove_file(outside).unwrap();
}

#[test]
fn titles_that_servers_write_name_their_application() {
    let titled = |runtime: &str, title: &str| {
        let process = Process { arguments: vec![title.to_owned()], ..Process::default() };
        let runtime = Runtime { name: runtime.to_owned(), version: None };
        of(&process, Some(&runtime)).map(|script| script.name)
    };
    assert_eq!(titled("cpython", "gunicorn: worker [shop.wsgi:app]").as_deref(), Some("shop.wsgi"));
    assert_eq!(titled("ruby", "puma 6.4.2 (tcp://0.0.0.0:3000) [shop]").as_deref(), Some("shop"));
    assert_eq!(titled("ruby", "sidekiq 7.2.0 shop [0 of 5 busy]"), None);
}
