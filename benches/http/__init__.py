"""What serving Streamable HTTP costs, beside what people have today: `python -m benches.http.measure`."""
